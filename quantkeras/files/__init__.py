"""Files: model files of Keras 2 and 3, what is wrong with them, and writing all at once."""
