"""One command's work: from a run file to a further-trained model, an honest comparison and a picture."""
