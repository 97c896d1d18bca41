import HTTPSupport
import Testing

@Suite(.timeLimit(.minutes(30))) struct FormFieldTests {
    @Test(arguments: [
        ("model=say+hi", ["model": "say hi"]), ("model=say%20hi", ["model": "say hi"]),
        ("model=c%2B%2B", ["model": "c++"]), ("model=c%2b%2b", ["model": "c++"]), ("date+from=1", ["date from": "1"]),
        ("a=1&&b=2&", ["a": "1", "b": "2"]), ("a", ["a": ""]), ("a=", ["a": ""]), ("=1", ["": "1"]),
        ("a=b=c", ["a": "b=c"]), ("a=100%", ["a": "100%"]), ("a=%zz%4", ["a": "%zz%4"]), ("a=%+1", ["a": "% 1"]),
        ("a=%C4%B1", ["a": "ı"]), ("a=ı", ["a": "ı"]), ("%61=1", ["a": "1"]), ("a=%26%3D", ["a": "&="]), ("", [:]),
    ]) func fieldsAreThoseOfTheStandard(text: String, fields: [String: String]) {
        let found = FormField.parse(text.utf8)
        #expect(Dictionary(uniqueKeysWithValues: found.map { ($0.name, $0.value) }) == fields)
    }

    @Test(arguments: ["%FF", "%C4", "a%ED%A0%80", "%C0%80"]) func bytesThatAreNotUTF8AreNoText(value: String) {
        #expect(FormField.parse("a=\(value)&b=1".utf8).map(\.value) == [nil, "1"])
    }

    @Test func repeatedFieldsKeepTheirOrder() {
        #expect(FormField.parse("a=1&a=2&a=".utf8).map(\.value) == ["1", "2", ""])
    }
}
