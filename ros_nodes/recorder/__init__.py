"""The recorder: what it subscribes to, what it watches, and the thread that writes."""
