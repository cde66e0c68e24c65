"""The parts of the nightly re-evaluation: registered versions, restoring them, the two checks, the noise band."""
