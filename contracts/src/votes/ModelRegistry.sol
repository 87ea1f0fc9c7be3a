// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// Models that the vote lists: which file, under which licence, how it is checked. A list to follow, and no permission:
/// nodes serve and ask for others as they like.
contract ModelRegistry {
    struct Model {
        /// SPDX identifier or name of the licence.
        string licence;
        /// Architecture as the file names it.
        string family;
        /// SHA-256 of the calibration card, by which answers are judged.
        bytes32 card;
        bool listed;
    }

    /// A name longer than this is none.
    uint256 public constant MAX_TEXT = 64;
    /// The vote's timelock.
    address public immutable SETTER;

    mapping(bytes32 digest => Model) private _models;

    event ModelListed(bytes32 indexed digest, string licence, string family, bytes32 card);
    event ModelDropped(bytes32 indexed digest);

    error NotSetter();
    error TextTooLong(uint256 len);
    error NotListed(bytes32 digest);

    constructor(address setter) {
        SETTER = setter;
    }

    /// `digest` is the SHA-256 of the model file.
    function modelOf(bytes32 digest) external view returns (Model memory) {
        return _models[digest];
    }

    function list(bytes32 digest, string calldata licence, string calldata family, bytes32 card) external {
        require(msg.sender == SETTER, NotSetter());
        require(bytes(licence).length <= MAX_TEXT, TextTooLong(bytes(licence).length));
        require(bytes(family).length <= MAX_TEXT, TextTooLong(bytes(family).length));
        _models[digest] = Model({licence: licence, family: family, card: card, listed: true});
        emit ModelListed(digest, licence, family, card);
    }

    function drop(bytes32 digest) external {
        require(msg.sender == SETTER, NotSetter());
        require(_models[digest].listed, NotListed(digest));
        delete _models[digest];
        emit ModelDropped(digest);
    }
}
