import Bootstrap

/// Writes one line as Swift's `print` does, and hides that one from this target: every text from data is made visible.
func print(_ items: Any..., separator: String = " ") {
    Terminal.print(items.map { "\($0)" }.joined(separator: separator))
}
