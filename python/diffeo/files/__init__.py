"""What is saved and loaded: containers, the form of each object, and the arrays that people bring."""
