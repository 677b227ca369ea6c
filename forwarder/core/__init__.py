"""What every room shares and nothing else: values, contracts, errors and pure decisions."""
