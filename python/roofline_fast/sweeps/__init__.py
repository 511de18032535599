"""Every combination of some axes: what the axes are, how points are priced, kept and written."""
