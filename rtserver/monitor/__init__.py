"""``rtserver monitor``: what a running server does, seen over ZeroMQ. It reads; nothing that it does reaches the music."""
