"""What the losses of a corpus mean: learnability, gradient agreement, noise, redundancy, stability of the ranking."""
