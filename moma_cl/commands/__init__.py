"""What a hub can be asked to do, one file for each verb."""
