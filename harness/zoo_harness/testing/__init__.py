"""What needs pytest: for authors of plugins who installed the extra `testing`."""
