"""The security layer: what is declared, the objects that follow, and what proves that each rule refuses."""
