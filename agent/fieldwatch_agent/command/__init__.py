"""Commands of the cloud: which are taken, how they are carried out, what is answered."""
