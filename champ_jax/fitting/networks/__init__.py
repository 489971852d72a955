"""MediaPipe's networks for people, bodies, hands and faces, as pure functions of weights and pictures."""
