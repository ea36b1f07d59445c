"""What a trained model computes, reads and decides, with numpy and the C++ core alone."""
