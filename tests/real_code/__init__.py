"""Model families as people write them in Keras 3, shrunk until each trains in seconds."""
