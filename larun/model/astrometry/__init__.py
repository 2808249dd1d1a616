"""Where on the sky an image is: stars against a reference, and the solution with all it rests on."""
