"""Files of pretrained weights: read, checked, written."""
