"""Between plain values and files: raw images, products, catalogues, regions, headers. Nothing here knows the model."""
