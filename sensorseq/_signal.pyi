"""The preprocessing loops of csrc/signal, as bound by csrc/bindings_signal*.cpp."""
