"""Training descriptors on landmarks with Lightning."""
