"""What nerfstudio 1.1.5 and viser 0.2.7 get wrong on our methods, a file per fault; each says when it may go."""
