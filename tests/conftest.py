"""For every test."""

import signal

# Tests interrupt jobs. A shell that runs the tests in the background has SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
