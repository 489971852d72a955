"""From a posed body to the motion conditions: depth, normal and semantic maps, mask, skeleton picture."""
