// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

/// The EIP-712 digest of structs, without the string library behind OpenZeppelin's, which needs opcodes that older chains
/// do not have.
abstract contract TypedData {
    bytes32 private constant DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    bytes32 private immutable _NAME;
    bytes32 private immutable _VERSION;
    bytes32 private immutable _SEPARATOR;
    uint256 private immutable _CHAIN;

    constructor(string memory name, string memory version) {
        _NAME = keccak256(bytes(name));
        _VERSION = keccak256(bytes(version));
        _CHAIN = block.chainid;
        _SEPARATOR = _build();
    }

    /// The domain's hash, for signers that check what they sign for.
    function domainSeparator() public view returns (bytes32) {
        // After a fork of the chain the same contract lives twice: signatures must not count on both.
        return block.chainid == _CHAIN ? _SEPARATOR : _build();
    }

    function _typed(bytes32 structHash) internal view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domainSeparator(), structHash));
    }

    function _build() private view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN, _NAME, _VERSION, block.chainid, address(this)));
    }
}
