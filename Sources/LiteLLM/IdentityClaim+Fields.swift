internal import Domain

extension IdentityClaim {
    /// What the proxy found out about the caller; nothing that the caller said of itself (`litellm.md` §4, §5).
    init(ofProxy fields: EventFields) {
        self.init(
            laravelUserID: fields[.keyLaravelUserID].positiveInteger, userID: fields[.keyUserID].positiveInteger)
        guard let key = fields[.keyHash].trimmedText else { return }
        keyHashes = [KeyHash(hex: key), KeyHash(of: key)].compactMap(\.self)
        presentedKey = PresentedKey(key)
    }

    /// `user_id`, a key or a number, else the one in `metadata`; what PHP takes for false names nobody
    /// (`laravel.md` §3).
    init(ofDocumented fields: EventFields) {
        self.init(laravelUserID: fields[.laravelUserID].positiveInteger)
        guard let value = [fields[.userID], fields[.metadataUserID]].first(where: { !$0.isFalsy }) else { return }
        guard let key = value.trimmedText else {
            keyHashes = [KeyHash(of: value.literal)]
            return
        }
        keyHashes = [KeyHash(of: key)]
        presentedKey = PresentedKey(key)
        userID = value.positiveInteger
        isKeyOptional = userID != nil
    }
}

extension JSONValue {
    /// Whether PHP takes it for false, as Laravel does with `user_id`.
    fileprivate var isFalsy: Bool {
        guard isStated, !isFalse, !isEmptyContainer else { return true }
        if isString { return ["", "0"].contains(trimmedText ?? "") }
        return number?.isZero ?? false
    }
}
