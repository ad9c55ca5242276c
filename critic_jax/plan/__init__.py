"""What a run needs on a chip and a mesh, before it is run."""
