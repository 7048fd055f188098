// Stands in the pages' bundles for `buf/validate/validate_pb`, a quarter of their size: the rules are for servers to
// check, and the contracts only name the file. This is its descriptor with a name and nothing else.

import { fileDesc } from "@bufbuild/protobuf/codegenv2";

export const file_buf_validate_validate = fileDesc("ChtidWYvdmFsaWRhdGUvdmFsaWRhdGUucHJvdG8SDGJ1Zi52YWxpZGF0ZWIGcHJvdG8y");
