"""Any camera from one YAML card."""
