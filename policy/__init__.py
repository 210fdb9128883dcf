"""Learning from recorded episodes and their labels, export to ONNX bundles, and the robots' runtime."""
