"""What tests of many folders make over and over: crystals, rows, hubs, stores and processes."""
