"""Does a kernel fit the networks that it stands for? Random wide copies of a model say so."""
