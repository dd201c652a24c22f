"""One folder for each system of the platform, and what their code shares. Nothing imports a folder by its name."""
