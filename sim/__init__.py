"""Environments on MuJoCo: tasks, rendering, scripted experts, collection and rollouts. Never imports
rclpy."""
