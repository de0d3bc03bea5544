"""The paper's third experiment: pictures of a rotating horse."""
