"""Side by side: ours, a peer, and what the machine allows. Peers are imported only here."""
