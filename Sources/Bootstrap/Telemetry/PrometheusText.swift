/// Pieces of the Prometheus text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).
enum PrometheusText {
    /// `label` as a metric or label name: letters, digits and `_`, not beginning with a digit.
    static func name(_ label: String) -> String {
        let name = String(label.unicodeScalars.map { isNameScalar($0) ? Character($0) : "_" })
        return name.first.map { $0.isNumber } ?? true ? "_" + name : name
    }

    /// `a="x",b="y"`, sorted by name.
    static func labels(_ dimensions: [(String, String)]) -> String {
        dimensions.map { (name($0.0), $0.1) }.sorted { $0.0 < $1.0 }
            .map { "\($0.0)=\"\(escaped($0.1))\"" }.joined(separator: ",")
    }

    /// One sample line; `extra` is one more label, already rendered.
    static func sample(_ name: String, labels: String, extra: String = "", value: Double) -> String {
        let all = [labels, extra].filter { !$0.isEmpty }.joined(separator: ",")
        return "\(name)\(all.isEmpty ? "" : "{\(all)}") \(number(value))\n"
    }

    /// A value as Go's ParseFloat reads it; whole numbers without a fraction.
    static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        return Int64(exactly: value).map(String.init) ?? String(value)
    }

    private static func escaped(_ value: String) -> String {
        value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
    }

    private static func isNameScalar(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar {
        case "a"..."z", "A"..."Z", "0"..."9", "_": true
        default: false
        }
    }
}
