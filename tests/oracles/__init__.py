"""Independent implementations in numpy that the product is compared with."""
