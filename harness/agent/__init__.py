"""What runs in the guest: serves clients over every link. Standard library only."""
