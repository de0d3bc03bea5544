"""Where the domain is curved: samples of one manifold placed on another."""
