"""Point-spread functions of images, and what is measured with them."""
