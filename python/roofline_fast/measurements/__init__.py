"""What users measured: fitted into efficiencies, and held against what is predicted."""
