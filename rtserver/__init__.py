"""rtserver: a low-latency real-time audio server for musicians and instrument builders."""

__version__ = "0.1.0"
