"""Who answers: endpoints over promoted models."""
