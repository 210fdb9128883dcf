"""Recordings of others: rosbag2 bags in and out, robomimic files in and out."""
