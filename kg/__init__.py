"""What is known: records, hypergraph, stores, arrays."""
