"""The paper's second experiment: networks that learned a vector field."""
