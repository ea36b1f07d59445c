"""What every room uses: checks of arguments, words of messages, formulas and lazy imports."""
