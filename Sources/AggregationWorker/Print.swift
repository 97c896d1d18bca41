import Bootstrap

/// Writes one line like Swift's `print`, which it replaces in this target: control characters in data are made visible.
func print(_ items: Any..., separator: String = " ") {
    Terminal.print(items.map { "\($0)" }.joined(separator: separator))
}
