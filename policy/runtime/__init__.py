"""What a robot runs: policy bundle, ONNX session, action chunks, limits, control tick. No torch, no ROS."""
