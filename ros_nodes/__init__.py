"""ROS 2 nodes: thin rclpy shells around the pure parts, and the stacks that run them."""
