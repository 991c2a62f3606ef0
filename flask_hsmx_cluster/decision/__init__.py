"""The brain: pure decision logic. It knows no sockets, clock, threads, disk, Flask or randomness."""
