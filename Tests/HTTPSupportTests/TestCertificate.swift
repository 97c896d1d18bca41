/// A self-signed certificate for `localhost`, valid until 2126, with its key; both are public here and protect nothing.
enum TestCertificate {
    static let certificate = pem(
        "CERTIFICATE",
        """
        MIIBljCCATugAwIBAgIUbaBx/Ed76GNR5m1tBEvzLYriraMwCgYIKoZIzj0EAwIw
        FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzE0MDUwM1oYDzIxMjYxMDMw
        MTQwNTAzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
        PQMBBwNCAAR8fMUWbqPDjmZdL+dOnxTh+9kaKXX8Xn43FiUdUeC7OFUS/jeCGwTz
        p90xKeVW/QdvPUc4pncMIRyM3WBuCuMdo2kwZzAdBgNVHQ4EFgQUIMVRhnV884+J
        rPAxHU9VW+T879YwHwYDVR0jBBgwFoAUIMVRhnV884+JrPAxHU9VW+T879YwDwYD
        VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID
        SQAwRgIhAL2oDVNYVl7P8TE2hc0mSfHlta/yQH7JTDC3mtKkTBeoAiEA7iq5o6GU
        459vRdfzmnMi2qcfHeKPPSN7r+u2l1ko+Kk=
        """)

    static let key = pem(
        "PRIVATE KEY",
        """
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgqotYPdYAFsIaJtKf
        0HNRrIoWrQDKYik3/WQK2IzvIE+hRANCAAR8fMUWbqPDjmZdL+dOnxTh+9kaKXX8
        Xn43FiUdUeC7OFUS/jeCGwTzp90xKeVW/QdvPUc4pncMIRyM3WBuCuMd
        """)

    /// A key of another certificate.
    static let otherKey = pem(
        "PRIVATE KEY",
        """
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQga7m2mk7ognNv7D8i
        miRc9cTLvS+q/LaBW6xUxdjHVm6hRANCAARR6vipN1UeKrJWf40aQXdfkMwvM+a1
        Lsjw8M3iu0ab/9DdrZfxLeo1mPerQ4lscAhYIzYfgZPSMvyweGZ1kXCT
        """)

    private static func pem(_ label: String, _ base64: String) -> String {
        "-----BEGIN \(label)-----\n\(base64)\n-----END \(label)-----\n"
    }
}
